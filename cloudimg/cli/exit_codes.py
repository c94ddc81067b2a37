"""Exit codes of ``cloudimg``: what scripts can tell apart.

====  ==========================================================================================
0     done
1     problems were found or left, or a failure of no other kind
2     wrong usage, or an argument that does not fit
3     nothing is there: no object, no bucket, no match of a pattern
4     files are missing, bad, or do not fit each other
5     the store refuses: credentials, permission, certificate, region
6     the store cannot be reached, or is busy, or changed meanwhile: the same command later
7     the destination cannot take the copy: it holds something else, or another migration's plan
8     another migration is writing to the destination
9     no room is left
10    the copy is damaged
11    files are in an archive of the store
12    the Dask cluster failed
70    unexpected error: a bug
129   ended by SIGHUP
130   ended by Ctrl-C
141   the reader of stdout closed it
143   ended by SIGTERM
====  ==========================================================================================
"""

from __future__ import annotations

from cloudimg import errors

DONE, FAILED, USAGE, UNEXPECTED, CLOSED = 0, 1, 2, 70, 141
SIGNALLED = 128
"""The exit code is this plus the number of the signal."""

_CODES: dict[type[BaseException], int] = {
    errors.CloudimgError: FAILED,
    errors.ArgumentError: USAGE,
    errors.NoMatchError: 3,
    errors.NotFoundError: 3,
    errors.GridError: 4,
    errors.FormatError: 4,
    errors.AccessDeniedError: 5,
    errors.CertificateError: 5,
    errors.WrongRegionError: 5,
    errors.StorageError: 6,
    errors.OccupiedError: 7,
    errors.NotConditionalError: 7,
    errors.LeaseError: 8,
    errors.NoRoomError: 9,
    errors.DamagedCopyError: 10,
    errors.ArchivedError: 11,
    errors.ClusterError: 12,
    Exception: UNEXPECTED,
}
_ADVICE = {
    FAILED: "look at the problems that are listed, and mend them",
    USAGE: "change the command; --help lists the options",
    3: "check the URL and the pattern",
    4: "mend or fetch the files, leave them out with --exclude, or allow them where the command"
    " has --missing fill and --bad fill",
    5: "check credentials, permissions, region and endpoint",
    6: "run the same command again later",
    7: "choose another destination, use the arguments of the migration there, or delete what is"
    " there with --overwrite",
    8: "wait until the other migration has ended, then run the same command again",
    9: "make room, then run the same command again",
    10: "cloudimg verify lists the problems, cloudimg repair mends what can be mended",
    11: "restore the files from the archive, then run the same command again",
    12: "look at the cluster, then run the same command again",
    UNEXPECTED: "report it with what --debug shows",
}


def code_of(error: BaseException) -> int:
    """The exit code for an error.

    Examples
    --------
    >>> code_of(errors.LeaseError("another migration is writing"))
    8
    """
    return next(_CODES[each] for each in type(error).__mro__ if each in _CODES)


def advice_on(code: int) -> str:
    """What to do after an exit code; of a signal, how to go on."""
    return _ADVICE.get(code, "run the same command again: it goes on where it was")
