"""Numbered pieces of work on the workers of a Dask cluster; knows neither files nor stores."""
