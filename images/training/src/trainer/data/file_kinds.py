"""What a data file is, told from its first bytes."""

from trainer.errors import BadInputError

PARQUET = b"PAR1"
GZIP = b"\x1f\x8b"
BYTES_NEEDED = 512

_WAY_OUT = "only CSV (plain or gzipped) and Parquet are read"
_OTHERS = {
    b"PK\x03\x04": "a zip archive, or an Excel or OpenDocument file: unzip it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel file: save the sheet as CSV",
    b"BZh": "compressed by bzip2: decompress it, or use gzip",
    b"\xfd7zXZ": "compressed by xz: decompress it, or use gzip",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: decompress it, or use gzip",
    b"7z\xbc\xaf": "a 7z archive: unpack it",
    b"ARROW1": "an Arrow (Feather) file: write it as Parquet",
    b"FEA1": "a Feather file: write it as Parquet",
    b"ORC": "an ORC file: write it as Parquet",
    b"Obj\x01": "an Avro file: write it as Parquet",
    b"SQLite format 3": "an SQLite database: export the table as CSV",
    b"\x89HDF": "an HDF5 file: write it as Parquet",
    b"%PDF": "a PDF",
}


def refuse_other_kinds(beginning: bytes, source: str) -> None:
    """Refuse files that are neither text nor Parquet nor gzipped, and text that is not a table.

    Raises:
        BadInputError: The file is of another kind; the message says which and what to do.
    """
    for magic, kind in _OTHERS.items():
        if beginning.startswith(magic):
            raise BadInputError(f"{source}: {kind}; {_WAY_OUT}")
    text = beginning.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] in {b"{", b"["}:
        raise BadInputError(f"{source}: JSON: convert it to CSV or Parquet; {_WAY_OUT}")
    if text[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise BadInputError(f"{source}: a web page, such as a login page in place of the file; {_WAY_OUT}")
    if text.startswith(b"<?xml"):
        raise BadInputError(f"{source}: XML: convert it to CSV or Parquet; {_WAY_OUT}")
