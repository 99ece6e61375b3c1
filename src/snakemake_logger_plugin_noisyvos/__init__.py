"""Snakemake finds logger plug-ins by the name of their package; the work is in noisyvos."""

from snakemake_interface_logger_plugins.base import LogHandlerBase

from noisyvos.watching.display import Display


class LogHandler(Display, LogHandlerBase):
    """A bar of cells on a terminal, a line now and then elsewhere."""
