"""Errors that a user or a file causes: each says what is wrong, with which value, and what helps.

Every error takes one finished message, so that it survives being sent between Dask processes.
"""


class PyamaError(Exception):
    """Base of all errors below; its text is meant for the user and is shown without a traceback."""


class InvalidParametersError(PyamaError, ValueError):
    """A request names something that does not exist or lies outside its range."""


class RecordingError(PyamaError):
    """A recording cannot be read: broken, truncated, empty, or not of a known format."""


class RecordingNotFoundError(RecordingError, FileNotFoundError):
    """The path of a recording leads nowhere."""


class MissingFrameError(RecordingError):
    """A frame that the recording announces is not in the file; raised for the FOV it belongs to."""


class TraceFileError(PyamaError, ValueError):
    """A file is no trace file, or holds rows that cannot be understood: what was expected, and what was found."""


class ProcessingError(PyamaError):
    """The data of one FOV cannot be processed, e.g. a non-finite pixel or too many cells."""


class OutputError(PyamaError):
    """The output folder cannot be used or written: not a folder, no permission, disk full."""


class OutputConflictError(OutputError):
    """The output folder holds results of another input or of other parameters."""


class OutputBusyError(OutputError):
    """Another run holds the output folder."""


class PluginError(PyamaError):
    """A plugin does not keep to the rules, or is not the one that results are to be made with."""


class ExportError(PyamaError):
    """Results could not be given to another program: a package or a driver is missing, or a database refuses."""


class ClusterError(PyamaError):
    """The Dask cluster that is to compute cannot be started or reached."""


class JobTimeoutError(PyamaError):
    """A job took longer than PYAMA_JOB_TIMEOUT allows."""
