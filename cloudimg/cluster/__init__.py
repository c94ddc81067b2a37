"""Dask clusters in the cloud: started for one job, by mutual TLS, and ended with it.

``start`` is for one ``with`` block; ``up``, ``connect``, ``status`` and ``down`` are for clusters
that outlive a process; ``check`` starts nothing. Where they may be started, Terraform prepares: see
``terraform/``.
"""

from cloudimg.cluster.running import check, connect, down, start, status, up

__all__ = ["check", "connect", "down", "start", "status", "up"]
