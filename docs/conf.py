"""Sphinx: Markdown pages, the docstrings of the package, and a gallery of scripts that are run at the build."""

from __future__ import annotations

import numrnn

project = "numrnn"
author = "The numrnn developers"
copyright = "2026, the numrnn developers"
release = version = numrnn.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc", "sphinx.ext.mathjax", "sphinx_gallery.gen_gallery"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["examples"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False
autosummary_generate = False
default_role = "code"
html_theme = "alabaster"
html_theme_options = {"description": "Recurrent networks for numeric Python", "fixed_sidebar": True}
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "within_subsection_order": "FileNameSortKey",
    "capture_repr": (),
    "abort_on_example_error": True,
    "show_memory": False,
    "write_computation_times": False,
    "min_reported_time": 3600,
    "plot_gallery": True,
    "download_all_examples": False,
    "copyfile_regex": "",
}
