"""How fast numrnn is: the asv suite (`suite`), the comparison with others (`peers`), the headline `figures`."""
