"""A third party. It answers with what it has been told in `baggage`, which must be nothing."""

from fastapi import FastAPI, Request, Response

app = FastAPI(title="Courier")


@app.get("/days")
async def days(request: Request) -> Response:
    """Days until delivery, and what came with the request."""
    return Response(f"2, told: {request.headers.get('baggage', 'nothing')}", media_type="text/plain")
