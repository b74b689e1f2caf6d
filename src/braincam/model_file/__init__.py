"""The artefact: card + weights + graph."""
