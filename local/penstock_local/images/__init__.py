"""The project's images on this machine: built by Docker where an engine answers, else by buildah on a base by mmdebstrap.

`archive(name)` gives an OCI archive with uncompressed layers for `ctr images import`; it is kept in the cache under a key
made of the image's inputs, so unchanged inputs cost nothing. `digest(name)` is that image's digest. Limits: amd64, one builder
at a time per image, a checkout of the project (the Dockerfiles are not in the wheel).
"""

from penstock_local.images.errors import ImagesError
from penstock_local.images.store import archive, build, digest

__all__ = ["ImagesError", "archive", "build", "digest"]
