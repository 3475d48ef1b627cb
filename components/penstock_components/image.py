"""The image every component runs in: this package with kfp and its libraries baked in, built from the project's Dockerfile.

A pipeline that needs another registry or tag sets it on the task: `task.set_container_image(...)`.
"""

from __future__ import annotations

from typing import Final

COMPONENTS_IMAGE: Final = "penstock/components:0.1.0"
