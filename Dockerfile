# One image for web, worker, upkeep, beat, inference and Chroma: the same pins everywhere.
#
#   docker build -t ragsite .                                CPU
#   docker build -t ragsite:gpu --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
FROM python:3.11-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
RUN python -m venv /venv
COPY requirements.txt .
RUN /venv/bin/pip install --extra-index-url "$TORCH_INDEX" -r requirements.txt

FROM python:3.11-slim-bookworm
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DATA_DIR=/data \
    OMP_WAIT_POLICY=PASSIVE \
    ANONYMIZED_TELEMETRY=False
# Recognises the text of scans and pictures; further languages: tesseract-ocr-deu and so on.
RUN apt-get update && apt-get install -y --no-install-recommends tesseract-ocr \
    && rm -rf /var/lib/apt/lists/*
RUN groupadd --gid 1000 ragsite \
    && useradd --uid 1000 --gid ragsite --no-create-home --home-dir /tmp ragsite \
    && install -d -o ragsite -g ragsite /data /chroma /models
COPY --from=build /venv /venv
WORKDIR /app
COPY . .
USER ragsite
VOLUME /data
EXPOSE 8000
CMD ["uvicorn", "ragsite.asgi:application", "--host", "0.0.0.0", "--port", "8000", "--no-access-log"]
