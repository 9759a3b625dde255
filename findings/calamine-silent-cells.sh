#!/usr/bin/env bash
# python-calamine 0.9.1 (the fast reader behind pandas' engine="calamine") gives '' for three different cells of an .xlsx:
# an empty one, a formula whose result was never stored (as openpyxl and many generators write them), and an error value
# such as #N/A. A table of labels read with it has empty labels where the workbook has formulas. openpyxl 3.1.5 tells all
# three apart (its second, formula view is needed for the second). Exits non-zero if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "python-calamine==0.9.1" "openpyxl==3.1.5"
cd "$folder" && venv/bin/python - <<'PY'
import openpyxl, python_calamine

book = openpyxl.Workbook()
for row in [("empty", None), ("formula", '=IF(1>0,"pos","neg")'), ("error", "#N/A")]:
    book.active.append(row)
book.save("cells.xlsx")
fast = python_calamine.CalamineWorkbook.from_path("cells.xlsx").get_sheet_by_index(0).to_python()
values = openpyxl.load_workbook("cells.xlsx", data_only=True).active
formulas = openpyxl.load_workbook("cells.xlsx").active
for (name, seen), number in zip(fast, (1, 2, 3), strict=True):
    print(f"{name:8} calamine {seen!r:6} openpyxl {values.cell(number, 2).value!r:8} formulas {formulas.cell(number, 2).value!r}")
assert [seen for _, seen in fast] == ["", "", ""], "calamine tells the cells apart now"
told = {(values.cell(n, 2).value, formulas.cell(n, 2).value) for n in (1, 2, 3)}
assert len(told) == 3, "openpyxl does not tell the cells apart any more"
PY
