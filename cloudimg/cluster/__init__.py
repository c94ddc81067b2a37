"""Dask clusters in the cloud, started for one job and stopped with it; connections use mutual TLS.

``start`` is for one ``with`` block. ``up``, ``connect``, ``status`` and ``down`` are for clusters
that outlive a process. ``check`` starts nothing. The Terraform modules in ``terraform/`` prepare
an account for clusters.
"""

from cloudimg.cluster.jobs import check, connect, down, start, status, up

__all__ = ["check", "connect", "down", "start", "status", "up"]
