# The package on a machine with GPUs: the pins of pyproject.toml in /opt/venv, and the repository in /replication.
# docs/install.md says how to build it and how to run it, with folders of the machine for what is to stay.
#
# Its check runs all tests inside: docker build --target check .
# BASE may be any Debian or Ubuntu with Python 3.11 or 3.12; on one without CUDA the same steps run on the CPU.
ARG BASE=nvidia/cuda:13.0.2-devel-ubuntu24.04

FROM ${BASE} AS install
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv python3-dev g++ make git ca-certificates \
    && rm -rf /var/lib/apt/lists/*
ARG UID=1001
RUN useradd --non-unique --uid ${UID} --create-home --shell /bin/bash researcher && mkdir /replication /opt/venv && chown researcher /replication /opt/venv
USER researcher
WORKDIR /replication
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:${PATH}
ARG EXTRAS=dev
# the packages first: they stay where only the code has changed
COPY --chown=researcher pyproject.toml README.md LICENSE ./
RUN mkdir replication && touch replication/__init__.py \
    && pip install --no-cache-dir --disable-pip-version-check -e ".[${EXTRAS}]"
COPY --chown=researcher . .
CMD ["python", "-m", "replication.fit", "--help"]

FROM install AS check
RUN ln -s /opt/venv .venv && (cd .venv && pwd -P) > .venv/installed && make test && python -m replication.check

FROM install
