# The service behind gunicorn. docs/container.md says how to build and run it, and how to pin the images by digest.

FROM node:24.19.0-trixie-slim AS console
WORKDIR /console
COPY console ./
RUN npm ci --omit=dev && node build.mjs

FROM python:3.13.15-slim-trixie AS packages
COPY locks/requirements-server.txt /tmp/requirements.txt
# The service's environment gets no pip of its own.
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv install --no-cache-dir --no-compile --only-binary=:all: --require-hashes \
        --requirement /tmp/requirements.txt

FROM python:3.13.15-slim-trixie AS service
WORKDIR /srv/klamala
COPY . .
COPY --from=console /console/dist console/dist
COPY --from=packages /opt/venv /opt/venv
# Bytecode here, once: nothing can write it later. It is never checked against dates, which a layer need not keep.
# The folder for data is the one that the service may write to; a new volume begins with its owner and mode.
RUN python -m compileall -q --invalidation-mode unchecked-hash /opt/venv /srv/klamala \
    && mkdir --mode=0700 /data \
    && chown 10001:10001 /data

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 \
    PORT=8000 \
    DATA_DIR=/data
LABEL org.opencontainers.image.title="klamala" \
    org.opencontainers.image.description="A prompt-refinement API: better prompts, explained, with everything a program depends on kept." \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.base.name="docker.io/library/python:3.13.15-slim-trixie"
# By number: Kubernetes can see that it is not root.
USER 10001:10001
# Records on the embedded default, the signing secret and the outbox outlive the container.
VOLUME /data
EXPOSE 8000
# The server stops after the requests that it has: give it 35 seconds before a kill.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --start-interval=2s --retries=3 \
    CMD ["python", "-c", "import http.client, os; ask = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=4); ask.request('GET', '/health'); raise SystemExit(ask.getresponse().status != 200)"]
# gunicorn is the first process: it takes the signals and reaps its workers, so that no other init is needed. Its
# heartbeat is in memory, whatever can be written to.
CMD ["gunicorn", "--worker-tmp-dir", "/dev/shm", "app:create_app()"]
