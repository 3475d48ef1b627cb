"""Kubeflow Pipelines components and the plain library behind them."""

import os

from penstock_components.errors import tell_plainly

# KFP sets it for the process of a step, whose end is the function of the component; there is no other place around that.
if os.environ.get("_KFP_RUNTIME") == "true":
    tell_plainly()
