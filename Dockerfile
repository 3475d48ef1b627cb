# The operator. Build from the repository's root: docker build -t penstock/operator:0.1.0 .
# Dependencies are a layer of their own, so that a change of code rebuilds in seconds.

ARG BASE=debian:bookworm-slim

FROM ${BASE} AS dependencies
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY constraints.txt pyproject.toml ./
COPY trainer/requirements-torch.txt trainer/requirements.txt trainer/
# /opt/penstock is what ships; pip and the build backend stay in /opt/build.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=certificates \
    python3 -m venv /opt/build && python3 -m venv --without-pip /opt/penstock \
 && /opt/build/bin/pip install --no-cache-dir --progress-bar off -c constraints.txt hatchling \
 && /opt/build/bin/python -c 'import tomllib; \
print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["operator"]))' > operator.txt \
 && /opt/build/bin/pip --python /opt/penstock/bin/python install --no-cache-dir --progress-bar off -c constraints.txt -r operator.txt \
 && find /opt/penstock -type d -name tests -prune -exec rm -rf {} + \
 # botocore carries the models of 400 services, 25 MB; the operator calls three.
 && find /opt/penstock/lib/python3*/site-packages/botocore/data -mindepth 1 -maxdepth 1 -type d \
      ! -name fsx ! -name ec2 ! -name sts -exec rm -rf {} +

FROM dependencies AS code
COPY README.md LICENSE ./
COPY operator/ operator/
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/build/bin/pip --python /opt/penstock/bin/python install --no-cache-dir --no-deps --no-index --prefix /code /wheels/*.whl

FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=dependencies /opt/penstock /opt/penstock
COPY --from=code /code /opt/penstock
# Nothing is written at run time: the root may be read-only, and Python's byte code is in the image.
ENV PATH=/opt/penstock/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["penstock-operator"]
