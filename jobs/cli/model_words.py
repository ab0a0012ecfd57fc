"""Which models a site has, for those who asked for another."""

from jobs.cli.server import Server

ADD_OTHERS = "An admin can add others on the site's page Models."


def base_models(server: Server) -> str:
    models = server.get("/models")["data"]
    names = ", ".join(model["id"] for model in models if not model.get("parent"))
    return f"Base models there: {names}."
