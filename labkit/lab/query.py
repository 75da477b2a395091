"""SQL over the store: DuckDB reads the points' `result.json` files where they lie.

Tables: one a study, named by it, and `points`, which is all of them (or the one study asked for). A row is a point:
its settings and what was measured. Lists of counts by rule are left out of `points` unless a query names them through
the study's own table.
"""

import warnings
from typing import TYPE_CHECKING

from labkit.errors import BadRequest
from labkit.lab.store import Store

if TYPE_CHECKING:
    import pandas as pd


def query(store: Store, study: str | None = None, sql: str | None = None) -> "pd.DataFrame":
    """The answer to `sql`, default every scalar column of `points`.

    Raises:
        BadRequest: for an empty or damaged store, or a query that DuckDB refuses.
    """
    import duckdb

    names = [study] if study else store.studies()
    names = [name for name in names if store.rows(name)]  # reads them all: a damaged file is named here
    if not names:
        raise BadRequest(
            f"no finished points{f' of {study}' if study else ''} in {store.root}: `labkit run` makes some"
        )
    try:
        with duckdb.connect() as db:
            for name in names:
                files = [path.as_posix() for path in store.finished(name)]
                db.read_json(files, union_by_name=True).create(name)
            union = " union all by name ".join(f'select * from "{name}"' for name in names)
            db.execute(f"create view every_column as {union}")
            columns = db.execute("describe every_column").fetchall()
            scalars = ", ".join(f'"{column[0]}"' for column in columns if not column[1].endswith("[]"))
            db.execute(f"create view points as select {scalars} from every_column")
            db.execute("set enable_external_access = false")
            if sql and [kind.type.name for kind in db.extract_statements(sql)] != ["SELECT"]:
                raise BadRequest(f"--sql {sql!r} is not one SELECT: results are read, never changed")
            with warnings.catch_warnings():  # duckdb 2.0 calls pandas in a way that pandas 3.1 deprecates
                warnings.simplefilter("ignore", DeprecationWarning)
                return db.execute(sql or "from points").df()
    except duckdb.Error as error:
        raise BadRequest(f"the query was refused: {str(error).splitlines()[0]}") from None
