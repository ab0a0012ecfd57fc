"""Tables that people bring: how cells, columns and encodings are read."""

import csv
import datetime

import openpyxl
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.reading.cells import TableRow, letter_of, names_of
from datasets.reading.mapping import MappedSegment, Mapper, Mapping, guess, read_table
from datasets.reading.tables import open_table
from finetune_site.common.errors import UserError
from jobs.trainer.text.examples import ExampleError


@pytest.fixture
def table(tmp_path):
    def open_it(content, suffix=".csv", **how):
        path = tmp_path / f"upload{suffix}"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return open_table(path, suffix, **how)

    return open_it


@pytest.fixture
def workbook(tmp_path):
    def make(*sheets):
        path = tmp_path / "upload.xlsx"
        book = xlsxwriter.Workbook(str(path), {"nan_inf_to_errors": True})
        for rows in sheets:
            sheet = book.add_worksheet()
            for at, cells in enumerate(rows):
                for number, cell in enumerate(cells):
                    write(book, sheet, at, number, cell)
        book.close()
        return open_table(path, ".xlsx")

    return make


def write(book, sheet, at, number, cell):
    if isinstance(cell, datetime.date):
        day = book.add_format({"num_format": "yyyy-mm-dd hh:mm"})
        sheet.write_datetime(at, number, cell, day)
    elif isinstance(cell, str):
        sheet.write_string(at, number, cell)
    elif cell is not None:
        sheet.write(at, number, cell)


def cells_of(table):
    return [row.cells for row in table.rows()]


def pairs(*segments):
    return Mapping(tuple(MappedSegment(*segment) for segment in segments))


# ----- text with separators


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_cells_are_cut_where_all_rows_have_the_same_many(table, separator):
    rows = [["a", "b"], ["1, or; 2", "3"], ["4", "5"]]
    content = "\n".join(separator.join(f'"{cell}"' for cell in row) for row in rows)
    opened = table(content)
    assert opened.columns == ["a", "b"]
    assert cells_of(opened) == rows[1:]


def test_the_separator_of_a_first_line_counts_and_is_no_row(table):
    opened = table("sep=~\na~b\n1,2~3\n")
    assert (opened.columns, cells_of(opened)) == (["a", "b"], [["1,2", "3"]])
    assert [row.line for row in opened.rows()] == [3]


@pytest.mark.parametrize(
    ("encoding", "says"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("windows-1252", "Windows-1252"),
    ],
)
def test_the_encodings_of_spreadsheet_programs_are_read_and_said(table, encoding, says):
    opened = table("name;price\ncafé;3 €\n".encode(encoding))
    assert cells_of(opened) == [["café", "3 €"]]
    assert (says in " ".join(opened.notes)) and bool(says) == any(
        "not UTF-8" in note for note in opened.notes
    )


def test_bytes_of_no_encoding_are_refused(table):
    with pytest.raises(UserError, match="neither UTF-8 nor Windows-1252"):
        table(b"a,b\n\x81\xff,2\n")


def test_rows_are_named_by_the_line_on_which_they_begin(table):
    opened = table('a,b\n"one\ntwo",2\n\n , \n3,4\n')
    assert [(row.line, row.cells) for row in opened.rows()] == [
        (2, ["one\ntwo", "2"]),
        (6, ["3", "4"]),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_ends_a_row(table, end):
    opened = table(f"a,b{end}1,2{end}3,4{end}")
    assert [row.line for row in opened.rows()] == [2, 3]
    assert cells_of(opened) == [["1", "2"], ["3", "4"]]


def test_surplus_cells_are_named_by_line_and_never_cut(table):
    opened = table("a,b\n1,2\n1,2,3\n")
    [_, row] = opened.rows()
    assert row.line == 3
    assert "3 cells and there are 2 columns" in row.problem


def test_a_quote_that_is_not_closed_is_named_by_its_line(table):
    opened = table('a,b\n1,2\n"3,4\n5,6\n')
    with pytest.raises(UserError, match="begins in line 3"):
        list(opened.rows())


@pytest.mark.parametrize("content", ["", "\n\n", ' , \n"",""\n'])
def test_a_table_without_a_text_is_refused(table, content):
    with pytest.raises(UserError, match="nothing in this table"):
        table(content)


def test_columns_get_names_that_differ():
    assert names_of(["a", "", "a", " a ", "{x\x00}"]) == [
        "a",
        "column B",
        "a (2)",
        "a (3)",
        "(x)",
    ]
    assert names_of(["a", "b"], has_header=False) == ["column A", "column B"]


def test_columns_are_lettered_as_spreadsheets_do():
    assert [letter_of(n) for n in (0, 25, 26, 701, 702)] == [
        "A",
        "Z",
        "AA",
        "ZZ",
        "AAA",
    ]


def test_without_a_header_the_first_row_counts(table):
    assert cells_of(table("1,2\n3,4\n", has_header=False)) == [["1", "2"], ["3", "4"]]


# ----- workbooks


def test_cells_of_a_workbook_are_texts_as_people_see_them(workbook):
    moment = datetime.datetime(2026, 11, 30, 9, 5)
    day = datetime.datetime(2026, 11, 30)
    rows = [
        ["a", "b", "c", "d", "e"],
        [3, 0.1 + 0.2, True, day, moment],
        ["=1+1", "two\nlines", 1e20, -5, 0.25],
    ]
    assert cells_of(workbook(rows)) == [
        ["3", "0.3", "TRUE", "2026-11-30", "2026-11-30 09:05:00"],
        ["=1+1", "two\nlines", "1e+20", "-5", "0.25"],
    ]


def test_the_first_sheet_with_a_text_is_read_and_others_are_told(workbook):
    opened = workbook([], [["a"], ["1"]], [["b"], ["2"]])
    assert cells_of(opened) == [["1"]]
    assert "Sheet2" in opened.notes[0]


def test_rows_of_a_workbook_have_the_numbers_of_the_program(workbook):
    opened = workbook([[None], ["a", "b"], [None, None], ["1", "2"]])
    assert opened.columns == ["a", "b"]
    assert [(row.line, row.cells) for row in opened.rows()] == [(4, ["1", "2"])]


def test_a_cell_beside_the_named_columns_is_told_and_not_cut(workbook):
    [row] = workbook([["a", "b"], ["1", "2", "3"]]).rows()
    assert "cell C2 stands right of all named columns" in row.problem


def test_an_error_in_a_cell_is_named_by_its_cell(tmp_path):
    path = tmp_path / "a.xlsx"
    book = xlsxwriter.Workbook(str(path))
    sheet = book.add_worksheet()
    sheet.write_row(0, 0, ["a", "b"])
    sheet.write_formula(1, 1, "=1/0", None, "#DIV/0!")
    sheet.write_string(1, 0, "x")
    book.close()
    [row] = open_table(path, ".xlsx").rows()
    assert "cell B2" in row.problem
    assert "#DIV/0!" in row.problem


def test_a_formula_that_was_never_worked_out_is_no_empty_cell(tmp_path):
    path = tmp_path / "a.xlsx"
    book = openpyxl.Workbook()
    book.active.append(["a", "b"])
    book.active.append(["x", "=A2&A2"])
    book.save(path)
    [row] = open_table(path, ".xlsx").rows()
    assert "cell B2 holds a formula that was never worked out" in row.problem


def test_a_formula_counts_as_what_it_came_to(tmp_path):
    path = tmp_path / "a.xlsx"
    book = xlsxwriter.Workbook(str(path))
    book.add_worksheet().write_row(0, 0, ["a"])
    book.worksheets()[0].write_formula(1, 0, "=1+1", None, 2)
    book.close()
    assert cells_of(open_table(path, ".xlsx")) == [["2"]]


@pytest.mark.parametrize("content", [b"", b"plain text", b"PK\x03\x04 cut"])
def test_what_is_no_workbook_is_refused_in_words(table, content):
    with pytest.raises(UserError, match="no .xlsx workbook|nothing in"):
        table(content, ".xlsx")


def test_a_workbook_that_unpacks_to_too_much_is_refused(workbook, monkeypatch):
    monkeypatch.setattr("datasets.reading.workbook.MAX_UNPACKED_BYTES", 100)
    with pytest.raises(UserError, match="unpacks to"):
        workbook([["a"], ["1"]])


# ----- from rows to examples


def example(mapping, columns, cells):
    return Mapper(mapping, columns).example(TableRow(2, list(cells)))


def test_a_template_is_written_with_the_cells_of_a_row():
    mapping = pairs(("Q: {q} {{{q}}}\n", 0.1), ("{a}", 1))
    assert example(mapping, ["q", "a"], ["why", "so"]) == [
        ("Q: why {why}\n", 0.1),
        ("so", 1),
    ]


def test_a_column_holds_the_weight_of_its_row():
    mapping = pairs(("{a}", 1, "w"))
    assert example(mapping, ["a", "w"], ["x", "0,5"]) == [("x", 0.5)]
    with pytest.raises(ExampleError, match="“much” in the column w"):
        example(mapping, ["a", "w"], ["x", "much"])


def test_a_row_that_has_nothing_to_learn_is_no_example():
    mapping = pairs(("{q}\n", 0), ("{a}", 1))
    with pytest.raises(ExampleError, match="nothing to learn in “{a}”"):
        example(mapping, ["q", "a"], ["why"])


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{answr}", "“answer” is meant"),
        ("{zz}", "there are “question”, “answer”"),
        ("{", "stands alone"),
        ("a } b", "stands alone"),
        ("a\x00", "NUL"),
    ],
)
def test_a_template_that_fits_no_column_is_refused(template, says):
    with pytest.raises(UserError, match=says):
        Mapper(pairs((template, 1)), ["question", "answer"])


@pytest.mark.parametrize(
    ("header", "segments"),
    [
        ("prompt,completion", [("{prompt}", 0.0), ("{completion}", 1.0)]),
        ("Answer,Question", [("{Question}\n", 0.0), ("{Answer}", 1.0)]),
        (
            "the message,our reply",
            [("{the message}\n", 0), ("{our reply}", 1)],
        ),
        ("text", [("{text}", 1.0)]),
        ("x,y", [("{x}\n", 0.0), ("{y}", 1.0)]),
    ],
)
def test_columns_are_guessed_by_name_and_length(table, header, segments):
    opened = table(f"{header}\n" + ",".join(["short"] + ["longer"] * header.count(",")))
    found = guess(opened, list(opened.rows()))
    assert [(one.template, one.weight) for one in found.segments] == segments


def test_bad_rows_are_named_and_good_ones_kept(table):
    opened = table("q,a\n1,2\n3,\n4,5,6\n7,8\n")
    [batch] = read_table(opened, guess(opened, list(opened.rows())))
    assert batch.texts == [("1\n", "2"), ("7\n", "8")]
    assert [bad.line for bad in batch.bad_lines] == [3, 4]
    assert batch.done == opened.path.stat().st_size


cells = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@settings(deadline=None)
@given(
    st.lists(
        st.lists(cells, min_size=2, max_size=2),
        max_size=5,
    ),
    st.sampled_from(",;\t|"),
)
def test_what_csv_writes_is_read_as_it_was(tmp_path_factory, rows, separator):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=separator, quoting=csv.QUOTE_ALL)
        writer.writerow(["first", "second"])
        writer.writerows(rows)
    expected = [row for row in rows if any(cell.strip() for cell in row)]
    assert cells_of(open_table(path, ".csv")) == expected
