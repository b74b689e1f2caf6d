# The server alone: no torch, no compiler, no root, no writable disk needed.
FROM python:3.11-slim

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 BRAINCAM_CACHE=off
COPY pyproject.toml README.md LICENSE /build/
COPY src /build/src
RUN python -m pip install "/build[serve]" && rm -rf /build

USER 65534:65534
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# BRAINCAM_TOKEN must be set: the server does not listen beyond the container without one
ENTRYPOINT ["braincam", "serve"]
CMD ["--host", "0.0.0.0", "--port", "8000"]
