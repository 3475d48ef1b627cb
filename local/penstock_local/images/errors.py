"""The one error of this package: what was found and what to do, in a sentence."""

from penstock_local.errors import LocalError


class ImagesError(LocalError):
    """An image cannot be built here; the message is for the user as it is."""
