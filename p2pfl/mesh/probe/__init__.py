"""How a link would be, asked without one: what `p2pfl doctor` says to other sites, answers them and concludes."""
