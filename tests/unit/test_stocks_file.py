"""The stocks to begin with: a bad file is refused with its name, the line and the reason."""

from pathlib import Path

import pytest

from services.catalog.stocks_file import DEFAULT_STOCKS, MAX_STOCKS, BadStocksFile, read_stocks
from services.common.models import MAX_STOCK, AdoptRequest, Stock
from services.common.wire import MAX_MESSAGE_BYTES

HEADER = "name,price,quantity\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.csv"


def read(file: Path, content: str | bytes) -> list[Stock]:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_stocks(file)


def refusal(file: Path, content: str | bytes) -> str:
    """What is said of a bad file, after its name."""
    with pytest.raises(BadStocksFile) as refused:
        read(file, content)
    said = str(refused.value)
    assert said.startswith(f"{file}:")
    assert "\n" not in said
    return said.removeprefix(f"{file}:")


def test_the_stocks_that_come_with_it_are_good() -> None:
    stocks = read_stocks(DEFAULT_STOCKS)
    assert len(stocks) >= 20
    assert {"GameStart", "FishCo", "BoarCo", "MenhirCo"} <= {stock.name for stock in stocks}
    assert all(stock.quantity > 0 for stock in stocks)


def test_stocks_come_by_name_with_prices_in_cents(file: Path) -> None:
    assert read(file, HEADER + "FishCo,20.5,7\nBoarCo,15.99,\nApple,227,0\n") == [
        Stock(name="Apple", price=22_700, quantity=0),
        Stock(name="BoarCo", price=1_599, quantity=100),
        Stock(name="FishCo", price=2_050, quantity=7),
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"name,price,quantity\r\nA,1.00,5\r\n",
        b"name,price,quantity\nA,1.00,5",
        b"\xef\xbb\xbfname,price,quantity\nA,1.00,5\n",
        b"price,quantity,name\n1.00,5,A\n",
        b'"name","price","quantity"\n"A","1.00","5"\n',
        b"name,price,quantity\n\n\nA,1.00,5\n\n",
        b"name,price,quantity\nA,0000000001.00,0000000000000005\n",
    ],
    ids=["CRLF", "no newline at the end", "a BOM", "another order", "quotes", "blank lines", "zeros in front"],
)
def test_the_same_stocks_come_when_they_are_written_in_another_way(file: Path, content: bytes) -> None:
    assert read(file, content) == [Stock(name="A", price=100, quantity=5)]


def test_quantity_is_100_when_the_column_or_the_field_is_left_out(file: Path) -> None:
    assert [stock.quantity for stock in read(file, "name,price\nA,1\n")] == [100]
    assert [stock.quantity for stock in read(file, HEADER + "A,1\nB,1,\n")] == [100, 100]


@pytest.mark.parametrize(
    ("price", "cents"),
    [
        ("0.01", 1),
        ("0.1", 10),
        ("1", 100),
        ("1.5", 150),
        ("1.05", 105),
        ("9999999999.99", 999_999_999_999),
        ("10000000000", 10**12),
    ],
)
def test_price_is_exact(file: Path, price: str, cents: int) -> None:
    assert read(file, HEADER + f"A,{price},1\n")[0].price == cents


@pytest.mark.parametrize(
    "price",
    [
        "",
        "0",
        "0.00",
        "-1",
        "+1",
        "1.005",
        "1.",
        ".5",
        "1,5",
        "1e3",
        "0x10",
        "1_000",
        " 1",
        "1 ",
        "NaN",
        "inf",
        "10000000000.01",
        "9" * 400,
        "١٢",
        "$1",
        "None",
    ],
)
def test_line_and_reason_when_a_price_is_bad(file: Path, price: str) -> None:
    quoted = f'"{price}"'
    assert refusal(file, HEADER + f"Good,1,1\nA,{quoted},1\n") == (
        "3: a price is a number above 0 with at most two decimals, like 152.25"
    )


@pytest.mark.parametrize(
    "name", ["", " ", "Game Start", "x" * 65, "é", "A\x00", "A/B", "A\tB", "'; DROP", "A\n", "\u202eA", "٣"]
)
def test_line_and_reason_when_a_name_is_bad(file: Path, name: str) -> None:
    said = refusal(file, HEADER + f'"{name}",1,1\n')
    assert said.endswith(": a name is 1 to 64 characters of A-Z a-z 0-9 . _ -")
    assert said.startswith("3:" if "\n" in name else "2:")


@pytest.mark.parametrize(
    "quantity", ["-1", "1.0", "x", "1e3", " 5", "+5", str(MAX_STOCK + 1), "9" * 30, "٣", "1_000", "NaN"]
)
def test_line_and_reason_when_a_quantity_is_bad(file: Path, quantity: str) -> None:
    assert refusal(file, HEADER + f"A,1,{quantity}\n") == "2: a quantity is a whole number from 0 to 10^15"


def test_the_largest_quantity_is_taken(file: Path) -> None:
    assert read(file, HEADER + f"A,1,{MAX_STOCK}\n")[0].quantity == MAX_STOCK


def test_line_and_reason_when_a_name_stands_twice(file: Path) -> None:
    assert refusal(file, HEADER + "A,1,1\nB,1,1\nA,2,2\n") == "4: this name stands twice"
    assert [stock.name for stock in read(file, HEADER + "A,1,1\na,1,1\n")] == ["A", "a"]


def test_line_and_reason_when_there_is_a_column_too_many(file: Path) -> None:
    assert refusal(file, HEADER + "A,1,1\nB,1,1,1\n") == "3: too many columns"
    assert refusal(file, HEADER + "A,1,1,\n") == "2: too many columns"


def test_line_and_reason_when_a_row_is_too_short(file: Path) -> None:
    assert refusal(file, HEADER + "A\n").startswith("2: a price is")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "\n",
        "A,1,1\n",
        "name\nA\n",
        "name,quantity\nA,1\n",
        "Name,Price,Quantity\nA,1,1\n",
        "name, price, quantity\nA,1,1\n",
        "name;price;quantity\nA;1;1\n",
        "name\tprice\tquantity\nA\t1\t1\n",
        "name,price,quantity,colour\nA,1,1,red\n",
        "name,price,quantity,\nA,1,1,\n",
        "name,price,price\nA,1,2\n",
        "name,name,price\nA,B,1\n",
        "name,price,quantity,quantity\nA,1,1,2\n",
        "\ufeff\ufeffname,price\nA,1\n",
        '{"name": "A"}',
    ],
)
def test_line_1_and_reason_when_the_header_is_another(file: Path, header: str) -> None:
    assert refusal(file, header) == "1: the first line must be name,price,quantity"


@pytest.mark.parametrize("content", [HEADER, HEADER + "\n\n", "name,price"])
def test_reason_when_there_is_no_stock(file: Path, content: str) -> None:
    assert refusal(file, content) == " holds no stock"


@pytest.mark.parametrize(
    "content",
    [HEADER.encode("utf-16"), HEADER.encode() + b"\xff,1,1\n", b"\x89PNG\r\n\x1a\n\x00"],
    ids=["UTF-16", "a wrong byte", "a picture"],
)
def test_reason_when_the_file_is_no_text(file: Path, content: bytes) -> None:
    assert refusal(file, content) == " is not UTF-8 text"


@pytest.mark.parametrize(
    "content",
    [HEADER + '"A,1,1\n', HEADER + 'A,1,"1"x\n', HEADER + '"A"B,1,1\n', HEADER + f'"{"x" * 200_000}",1,1\n', '"' * 5],
)
def test_line_and_reason_when_quotes_are_wrong_or_a_field_is_huge(file: Path, content: str) -> None:
    line, reason = refusal(file, content).split(": ", 1)
    assert line.isdigit()
    assert reason


def test_reason_when_the_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadStocksFile, match=r"nowhere\.csv: cannot be read: No such file"):
        read_stocks(tmp_path / "nowhere.csv")
    with pytest.raises(BadStocksFile, match="cannot be read: Is a directory"):
        read_stocks(tmp_path)


def test_reason_when_there_are_too_many_stocks(file: Path) -> None:
    rows = "".join(f"S{i},1,1\n" for i in range(MAX_STOCKS + 1))
    assert refusal(file, HEADER + rows) == f"{MAX_STOCKS + 2}: more than {MAX_STOCKS:,} stocks"


def test_as_many_stocks_as_allowed_fit_into_one_message_to_a_replica() -> None:
    """Else a new bazaar would wait for ever: the replicas would refuse the message that carries them."""
    longest = Stock(name="x" * 64, price=10**12, quantity=MAX_STOCK)
    one = len(AdoptRequest(generation=2**63, stocks=[longest]).model_dump_json())
    two = len(AdoptRequest(generation=2**63, stocks=[longest] * 2).model_dump_json())
    assert one + (two - one) * (MAX_STOCKS - 1) <= MAX_MESSAGE_BYTES
