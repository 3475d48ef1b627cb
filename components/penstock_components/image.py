"""The image every component runs in: this package with kfp and its libraries baked in, built from the project's Dockerfile.

Another registry or tag is chosen when a pipeline is compiled, by PENSTOCK_COMPONENTS_IMAGE; in a running step it means nothing.
"""

from __future__ import annotations

import os
from typing import Final

COMPONENTS_IMAGE: Final = os.environ.get("PENSTOCK_COMPONENTS_IMAGE") or "penstock/components:0.1.0"
