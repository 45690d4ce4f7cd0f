"""The service behind it. It knows nothing of keys or customers, and its usage is counted for them all the same."""

from fastapi import FastAPI, Response

app = FastAPI(title="Pricing")


@app.get("/prices/{item}")
async def price(item: str) -> Response:
    """The price of an item."""
    return Response(f"{10 + len(item)}.00", media_type="text/plain")
