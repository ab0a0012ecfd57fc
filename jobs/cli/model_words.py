"""Says which models a site has, when somebody asked for one that it lacks."""

from jobs.cli.server import Server

ADD_OTHERS = "An admin can add others on the site's page Models."


def base_models(server: Server) -> str:
    """Returns a sentence with the names of all base models."""
    models = server.get("/models")["data"]
    names = ", ".join(model["id"] for model in models if not model.get("parent"))
    return f"Base models there: {names}."
