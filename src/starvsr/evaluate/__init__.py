"""Video files measured and compared: tables, reports and the HTML page.

Open `measure.py` first for `starvsr evaluate`, `compare.py` for `starvsr compare`.
"""
