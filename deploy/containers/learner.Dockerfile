# The learner, for Kubernetes or any container engine. From the root of the repository:
#
#   docker build --file deploy/containers/learner.Dockerfile --tag graspfleet-learner .
#
# Training runs on the CPU: --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
# saves a few GB. Checked by a linter; not built where the tests run, which have no engine.
FROM python:3.11-slim-bookworm

# KubeRay's probes call wget; Ray looks at processes with ps.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends procps wget \
    && rm -rf /var/lib/apt/lists/*

ARG PIP_EXTRA_INDEX_URL=""
WORKDIR /opt/graspfleet
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY protocol protocol
COPY robot_agent robot_agent
COPY learner learner
COPY fleet fleet
RUN pip install --no-cache-dir --constraint constraints.txt ".[fleet]" \
    && useradd --uid 1000 --create-home learner
USER 1000
WORKDIR /home/learner

# Of gateway and release server.
EXPOSE 5701 5702
ENTRYPOINT []
CMD ["python", "-m", "learner", "--help"]
