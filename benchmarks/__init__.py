"""How fast numrnn is: the asv suite (`suite`), the comparison with other libraries (`peers`), the headline `figures`."""
