"""What Django's URLs are, as a template: the names of what varies and no regular expressions."""

from __future__ import annotations

import pytest

from otel_usage.instrumentation.django import template_of


@pytest.mark.parametrize(
    ("route", "template"),
    [
        ("", "/"),
        ("items/<int:n>", "/items/<int:n>"),
        ("api/v1.0/items/<str:customer>/", "/api/v1.0/items/<str:customer>/"),
        ("inner/<str:m>/items/<int:n>", "/inner/<str:m>/items/<int:n>"),
        (r"^articles/(?P<year>[0-9]{4})/$", "/articles/<year>/"),
        (r"inner/<str:m>/items/(?P<pk>[^/.]+)$", "/inner/<str:m>/items/<pk>"),
        (r"^items\.(?P<format>[a-z0-9]+)/?$", "/items.<format>/"),
        (r"^items/(?P<n>(?:[0-9]|x)+)/(?:detail/)?$", "/items/<n>/detail/"),
        (r"^old/([0-9]+)/(\w+)\Z", "/old/<var>/<var>"),
        (r"^a/(?P<outer>x(?P<inner>[0-9])y)/b$", "/a/<outer>/b"),
        (r"^odd/(?P<n>[)(]+)/(?P<m>\)\()$", "/odd/<n>/<m>"),
        (r"^broken/(?P<n>[0-9]+$", "/broken/<n>"),
        (r"^more/(?P<n>\d+))/end$", "/more/<n>/end"),
        (r"^ahead(?=/x)/(?!y)x$", "/ahead/x"),
        (r"(?i)^any/case$", "/any/case"),
        (r"^files/(?P<path>.*)$", "/files/<path>"),
    ],
)
def test_a_route_becomes_a_template(route: str, template: str) -> None:
    assert template_of(route) == template
