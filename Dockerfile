# The runtime wing and the server: no torch, no root, nothing written. How to run it: docs/serve.md.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN python -m pip wheel --no-cache-dir --wheel-dir /wheels ".[serve,dicom]"

FROM python:3.12-slim
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    python -m pip install --no-cache-dir --no-index --find-links /wheels "braincam[serve,dicom]"
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin braincam
USER 10001:10001
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 ORT_DISABLE_TELEMETRY=1
EXPOSE 8000
# /healthz needs no token.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# It is reached from outside the container, so it does not start without BRAINCAM_TOKEN or --token-file.
ENTRYPOINT ["braincam", "serve", "--host", "0.0.0.0", "--port", "8000"]
