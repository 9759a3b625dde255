# The service in a container: built from this folder, run as nobody, its dock in /dock.
FROM python:3.11-slim AS build
COPY . /source
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir -c /source/constraints.txt "/source[server]"

FROM python:3.11-slim
COPY --from=build /venv /venv
RUN mkdir /dock && chown nobody /dock
USER nobody
VOLUME /dock
EXPOSE 7080
ENV LEARNDOCK_DOCK=/dock LEARNDOCK_HOST=0.0.0.0
HEALTHCHECK CMD ["/venv/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7080/api/v1/ready')"]
ENTRYPOINT ["/venv/bin/learndock"]
CMD ["serve"]
