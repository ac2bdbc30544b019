"""Reports over HTTP: made, listed and fetched by id."""

from __future__ import annotations

import pytest

from tests.conftest import ACME

URL = f"/v1/tenants/{ACME}/reports"


async def test_a_report_is_made_listed_and_fetched_in_each_format(client):
    made = await client.post(URL, json={"period": "weekly", "formats": ["csv"]})
    assert made.status_code == 201, made.text
    assert "folder" not in made.json()
    (listed,) = (await client.get(URL)).json()["reports"]
    assert listed == made.json()
    for format, media_type in (("html", "text/html"), ("csv", "text/csv"), ("json", "application/json")):
        found = await client.get(f"{URL}/{listed['report_id']}", params={"format": format})
        assert found.status_code == 200
        assert found.headers["content-type"].startswith(media_type)
    page = await client.get(f"{URL}/{listed['report_id']}")
    assert "style-src 'sha256-" in page.headers["content-security-policy"]
    assert "sandbox" in page.headers["content-security-policy"]
    assert "What to decide" in page.text


@pytest.mark.parametrize("report_id", ["..%2f..%2fkaren.db", "%2e%2e", "x", "0" * 32])
async def test_an_unknown_id_is_not_found(client, report_id):
    assert (await client.get(f"{URL}/{report_id}")).status_code in (404, 405)


async def test_unknown_keys_and_formats_are_refused(client):
    for body in ({"period": "daily"}, {"formats": ["docx"]}, {"output": "/etc/passwd"}):
        assert (await client.post(URL, json=body)).status_code == 422


async def test_a_reader_makes_no_report(make_client):
    reader = await make_client("reader")
    assert (await reader.get(URL)).status_code == 200
    assert (await reader.post(URL, json={})).status_code == 403


async def test_the_schema_of_reports_is_published(app):
    assert "PeriodReport" in app.openapi()["components"]["schemas"]
