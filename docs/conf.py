"""Sphinx: Markdown pages and the docstrings of the package."""

from __future__ import annotations

import numrnn

project = "numrnn"
author = "The numrnn developers"
copyright = "2026, the numrnn developers"
release = version = numrnn.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "sphinx.ext.mathjax"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False
autosummary_generate = False
default_role = "code"
html_theme = "alabaster"
html_theme_options = {"description": "Recurrent networks for numeric Python", "fixed_sidebar": True}
