"""The one error of this package: what was found and what to do, in a sentence."""


class ImagesError(Exception):
    """An image cannot be built here; the message is for the user as it is."""
