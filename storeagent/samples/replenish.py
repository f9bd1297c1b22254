"""Reads a stock list and raises a replenishment alert for each product that runs out.

Run it from the till's scheduler as often as you like: the key makes a second run of the same day
harmless.

    python -m storeagent.samples.replenish stock.csv
"""

import csv
import sys
from datetime import date
from pathlib import Path

from storeagent import Agent


def main(stock_file: str) -> int:
    """Raise the alerts; returns how many products run out."""
    agent = Agent()
    low = 0
    with Path(stock_file).open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            on_hand, reorder_point = int(row["on_hand"]), int(row["reorder_point"])
            if on_hand <= reorder_point:
                low += 1
                agent.alert(
                    "replenishment",
                    sku=row["sku"],
                    on_hand=on_hand,
                    reorder_point=reorder_point,
                    note=row["name"],
                    key=f"{date.today()}-{row['sku']}",  # noqa: DTZ011 - the store's own day
                )
    agent.close()
    return low


if __name__ == "__main__":
    print(main(sys.argv[1]), "products run out")  # noqa: T201 - a program's output
