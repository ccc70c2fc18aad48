"""From finished runs to tables, pages and figures."""
