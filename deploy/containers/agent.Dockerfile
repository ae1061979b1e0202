# One robot's agent: the base package and what real arms need, for 64-bit Intel and ARM (Raspberry
# Pi 4 and 5, Jetson). From the root of the repository:
#
#   docker buildx build --platform linux/amd64,linux/arm64 \
#     --file deploy/containers/agent.Dockerfile --tag graspfleet-agent .
#
#   docker run --network host --device /dev/ttyACM0 --device /dev/video0 \
#     --volume /srv/robot:/srv/robot graspfleet-agent --config /srv/robot/robot.toml
#
# "check" and "calibrate" go before --config, with --interactive --tty. An engine that ends the
# container of an agent that died ends its guard too: a real arm is safer under deploy/systemd.
#
# The bundle's secret key must belong to user 1000, mode 0600, and the state folder be writable for
# it. Checked by a linter; not built where the tests run, which have no engine.
FROM python:3.11-slim-bookworm

WORKDIR /opt/graspfleet
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY protocol protocol
COPY robot_agent robot_agent
RUN pip install --no-cache-dir --constraint constraints.txt ".[hardware]" \
    && rm /usr/local/bin/fleet \
    # Serial ports and cameras belong to these groups.
    && useradd --uid 1000 --create-home --groups dialout,video robot
USER 1000
WORKDIR /home/robot

ENTRYPOINT ["robot-agent"]
CMD ["--help"]
