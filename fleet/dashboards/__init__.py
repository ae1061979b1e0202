"""What operators see in Grafana: dashboards as code, written to ``deploy/grafana``."""
