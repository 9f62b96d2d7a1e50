BssJ
×#<