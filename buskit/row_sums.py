"""A checksum in each row that must not be believed when its disk has changed it.

SQLite notices damage to the structure of a file, and none within a text or a number. So tables
whose rows are sent, or decide what is sent, have a column `sum`: the CRC-32 of all others. It finds
every damage within four bytes, and of any other all but one in four thousand million. It is against
disks and not against people, who could compute it as well.

Pure: no files, no SQL.
"""

from zlib import crc32

SUM = "sum"
"""What the column is called, in whatever table has one."""


def row_sum(*values: object) -> int:
    """The sum of a row.

    Args:
        values: All other columns, in the order of the table, as SQLite gives them back: None, text,
            bytes, whole and real numbers; of numbers, 1 and 1.0 are the same.
    """
    found = 0
    for value in values:
        if isinstance(value, bytes):
            found = crc32(value, crc32(b"b%d:" % len(value), found))
        elif isinstance(value, str):
            text = value.encode("utf-8", "surrogatepass")
            found = crc32(text, crc32(b"t%d:" % len(text), found))
        elif value is None:
            found = crc32(b"n", found)
        else:
            number = repr(float(value))  # type: ignore[arg-type]
            found = crc32(b"r%s;" % number.encode(), found)
    return found
