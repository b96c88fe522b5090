# One image for every process of a pipeline; which one it is, the command says.
FROM python:3.12-slim

WORKDIR /opt/sluice
COPY requirements-runtime.lock ./
RUN python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-runtime.lock

COPY . ./
RUN python -m pip install --no-cache-dir --disable-pip-version-check --no-deps . \
    && useradd --system --create-home --uid 10001 sluice \
    && mkdir -p /var/lib/sluice \
    && chown sluice /var/lib/sluice

USER sluice
WORKDIR /var/lib/sluice
VOLUME /var/lib/sluice
ENV PYTHONUNBUFFERED=1

# SIGTERM drains: the open batch is finished, committed and acknowledged.
STOPSIGNAL SIGTERM
ENTRYPOINT ["sluice"]
CMD ["--help"]
