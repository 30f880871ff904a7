# The hub as a container: docs/running.md#as-a-container says how it is started and how its first client is made.
ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
WORKDIR /src
# First what changes seldom. Every package is pinned by its hash, what builds ours included.
COPY requirements.txt ./
RUN python -m venv /opt/alg && /opt/alg/bin/python -m pip install --require-hashes --requirement requirements.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY core ./core
COPY memory ./memory
COPY compression ./compression
COPY handoff ./handoff
COPY gateway ./gateway
COPY server ./server
RUN /opt/alg/bin/python -m pip install --no-deps --no-build-isolation . && /opt/alg/bin/python -m compileall -q /opt/alg

FROM python:${PYTHON}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git openssh-client \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 alg \
    && useradd --uid 10001 --gid alg --home-dir /data --no-create-home --shell /usr/sbin/nologin alg \
    && install --directory --owner=alg --group=alg --mode=0700 /data
COPY --from=build /opt/alg /opt/alg
ENV PATH=/opt/alg/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/data \
    ADAPTIVE_LLM_GATEWAY_HOME=/data/home \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8377
STOPSIGNAL SIGTERM
# With a certificate of its own it speaks nothing but TLS; whose name is in that does not matter here.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, ssl, urllib.request as web; url = 'http://127.0.0.1:8377/healthz'; tls = bool(os.environ.get('ALG_HTTP__TLS_CERTIFICATE')); web.urlopen(url.replace('http', 'https', 1) if tls else url, timeout=4, context=ssl._create_unverified_context() if tls else None)"]
# The hub is process 1: it ends on SIGTERM within 20 s, after what it began. `init: true` in compose.yaml buries orphans.
ENTRYPOINT ["alg"]
CMD ["hub", "run", "--service"]
