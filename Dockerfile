# Fedgate in two stages: wheels are made in the first and installed, without any build tool, in the second.
# The base needs Python 3.11 or newer with pip; both stages must have the same one.
ARG BASE=docker.io/library/python:3.11-slim

# hadolint ignore=DL3006
FROM ${BASE} AS build
WORKDIR /build
COPY pyproject.toml README.md ./
COPY broker broker
COPY sts sts
COPY iam iam
# Dependencies come as wheels alone; only our own package is built. It is named by its file, never by its name: whatever
# a registry has under that name is not ours.
RUN python -m pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
 && python -m pip download --no-cache-dir --only-binary :all: --dest /wheels "$(ls /wheels/fedgate-*.whl)[demo,postgresql]"

# hadolint ignore=DL3006
FROM ${BASE}
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    python -m venv /opt/fedgate \
 && /opt/fedgate/bin/python -m pip install --no-cache-dir --no-index --find-links /wheels "fedgate[demo,postgresql]" \
 && mkdir -m 700 /data \
 && chown 65532:65532 /data
ENV PATH=/opt/fedgate/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FEDGATE_BIND=0.0.0.0:8080 \
    FEDGATE_DATA_DIR=/data
WORKDIR /data
VOLUME /data
USER 65532:65532
EXPOSE 8080
# Everything that is written is under /data and /tmp: run it with --read-only --tmpfs /tmp.
# Whether it lives: a container that is restarted because Redis or a directory is away helps nobody.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ['FEDGATE_BIND'].rpartition(':')[2]), timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["fedgate"]
CMD ["run"]
