# The image that profiles/kubernetes runs: noisyvos, Snakemake with its Kubernetes plug-in, DVC, MLflow.
# `make image` builds it. Push it to a registry of yours and name it in profiles/kubernetes/config.yaml.
FROM python:3.12-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/noisyvos
ENV PATH="/opt/noisyvos/bin:${PATH}"

# requirements.txt as constraints: each package has its pinned version, and the tools of developers stay out.
WORKDIR /noisyvos
COPY requirements.txt requirements.txt
COPY profiles/kubernetes/requirements.txt profiles/kubernetes/requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --constraint requirements.txt setuptools \
    && pip install --no-cache-dir --constraint requirements.txt --no-build-isolation \
        --requirement profiles/kubernetes/requirements.txt --editable ".[pipeline]" \
    && pip check

FROM python:3.12-slim

ENV PATH="/opt/noisyvos/bin:${PATH}" \
    HOME=/home/noisyvos \
    PYTHONUNBUFFERED=1 \
    PYTHONPATH=src \
    OMP_NUM_THREADS=1

# PYTHONPATH: in a folder with a copy of this repository its `src` is imported, else that of the image.
# A number and not only a name: Kubernetes checks `runAsNonRoot` by the number.
RUN useradd --uid 10001 --create-home --home-dir /home/noisyvos noisyvos
COPY --from=build /opt/noisyvos /opt/noisyvos

# The whole pipeline is here, so that `docker run` can use the image without Kubernetes:
# docker run --volume "$PWD/data:/noisyvos/data" --volume "$PWD/results:/noisyvos/results" noisyvos snakemake
WORKDIR /noisyvos
COPY --chown=10001:10001 . .
RUN chown 10001:10001 /noisyvos && python -m compileall -q src

USER 10001:10001
CMD ["noisyvos", "--help"]
