# docker build -t starvsr .                        for the CPU
# docker build -t starvsr:cuda --target cuda .     for NVIDIA's GPUs
# docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" starvsr upscale in.mp4 out.mp4
FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm AS base
# For any --user: what is downloaded, and what is remembered of this machine.
RUN mkdir --mode 1777 /weights /home/any
ENV HOME=/home/any STARVSR_WEIGHTS=/weights
COPY constraints.txt /constraints.txt
WORKDIR /data
ENTRYPOINT ["starvsr"]
CMD ["--help"]

FROM base AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,video,utility
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --constraint /constraints.txt /wheels/starvsr-*.whl
USER 1000

# The last stage is the one that is built if none is named.
FROM base AS cpu
RUN pip install --no-cache-dir --constraint /constraints.txt \
    --index-url https://download.pytorch.org/whl/cpu torch
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --constraint /constraints.txt /wheels/starvsr-*.whl
USER 1000
