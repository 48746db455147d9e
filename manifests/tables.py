"""Reads the tables in which data sets keep their annotations: CSV files and sheets of a workbook."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actiondiff.manifests.faults import Fault, ManifestError, shortened
from actiondiff.manifests.reading import decoded, numbered_rows


@dataclass(frozen=True)
class TableRow:
    """One row of a table.

    Attributes:
        file: the file's name, and the sheet's.
        line: where the row begins, counted from 1.
        cells: text of each named column, without blanks around it.
    """

    file: str
    line: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def fault(self, message: str) -> Fault:
        """A broken rule, with the row's place."""
        return Fault(self.line, message, self.file)


def read_csv(path: Path, columns: Sequence[str], faults: list[Fault]) -> list[TableRow]:
    """Read a CSV file whose first line names its columns.

    Args:
        path: the file, UTF-8.
        columns: those that must be there; others are kept as well.
        faults: what is wrong is added here; nothing is raised, so that several files can be told of at once.
    """
    text = read_text(path, faults)
    if text is None:
        return []
    broken: list[Fault] = []
    rows = numbered_rows(text, broken)
    table = _table(path.name, [(line, list(cells)) for line, cells in rows], columns, faults)
    faults.extend(Fault(fault.line, fault.message, path.name) for fault in broken)
    return table


def read_text(path: Path, faults: list[Fault]) -> str | None:
    """The text of a UTF-8 file, or None with a fault told."""
    try:
        return decoded(path.read_bytes(), path)
    except ManifestError as error:
        faults.extend(Fault(fault.line, fault.message, path.name) for fault in error.faults)
    except OSError as error:
        faults.append(Fault(None, f"cannot be read ({error.strerror}); check the path.", str(path)))
    return None


def read_sheets(path: Path, sheets: Mapping[str, Sequence[str]], faults: list[Fault]) -> dict[str, list[TableRow]]:
    """Read sheets of an Excel workbook whose first rows name their columns.

    Args:
        path: the .xlsx file.
        sheets: name of each sheet that must be there, with the columns it must have.
        faults: what is wrong is added here.

    Returns:
        The rows of every sheet; empty for one that is not there.
    """
    try:
        workbook = _open_workbook(path)
    except OSError as error:
        faults.append(Fault(None, f"cannot be read ({error.strerror}); check the path.", str(path)))
        return {sheet: [] for sheet in sheets}
    if workbook is None:
        faults.append(Fault(None, "is not an Excel workbook (.xlsx); download it again.", str(path)))
        return {sheet: [] for sheet in sheets}
    try:
        return {sheet: _read_sheet(workbook, path, sheet, sheets[sheet], faults) for sheet in sheets}
    finally:
        workbook.close()


def read_first_sheet(path: Path, faults: list[Fault]) -> list[tuple[int, list[str]]]:
    """The rows of a workbook's first sheet that are not empty, each with its number."""
    workbook = _open_workbook(path)
    if workbook is None:
        faults.append(Fault(None, "is not an Excel workbook (.xlsx); export it again.", path.name))
        return []
    try:
        rows = enumerate(workbook.worksheets[0].iter_rows(values_only=True), start=1)
        return [(line, cells) for line, row in rows if any(cells := [_text(cell) for cell in row])]
    finally:
        workbook.close()


def _open_workbook(path: Path) -> Any:
    """The workbook, read row by row; None where the file is none."""
    from zipfile import BadZipFile

    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        return openpyxl.load_workbook(path, read_only=True, data_only=False)
    except (BadZipFile, InvalidFileException, KeyError):
        return None


def _read_sheet(workbook: Any, path: Path, sheet: str, columns: Sequence[str], faults: list[Fault]) -> list[TableRow]:
    if sheet not in workbook.sheetnames:
        there = shortened(workbook.sheetnames)
        faults.append(Fault(None, f"has no sheet {sheet!r}; it has: {there}. Is it another workbook?", path.name))
        return []
    rows = enumerate(workbook[sheet].iter_rows(values_only=True), start=1)
    filled = [(line, [_text(cell) for cell in cells]) for line, cells in rows]
    return _table(f"{path.name}, sheet {sheet}", [row for row in filled if any(row[1])], columns, faults)


def _text(cell: Any) -> str:
    # Programs that save a workbook anew turn 78 into 78.0.
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return "" if cell is None else str(cell).strip()


def _table(
    file: str, rows: Iterable[tuple[int, list[str]]], columns: Sequence[str], faults: list[Fault]
) -> list[TableRow]:
    numbered = iter(rows)
    line, header = next(numbered, (1, []))
    names = [name.strip() for name in header]
    absent = [column for column in columns if column not in names]
    if absent:
        found = ", ".join(filter(None, names)) or "nothing"
        faults.append(Fault(line, f"the header lacks {', '.join(absent)}; found: {found}.", file))
        return []
    return list(_rows(file, names, numbered, faults))


def _rows(
    file: str, names: Sequence[str], rows: Iterator[tuple[int, list[str]]], faults: list[Fault]
) -> Iterator[TableRow]:
    for line, cells in rows:
        if len(cells) != len(names):
            faults.append(Fault(line, f"the row has {len(cells)} cells, the header {len(names)}.", file))
        else:
            yield TableRow(file, line, {name: cell.strip() for name, cell in zip(names, cells, strict=True)})
