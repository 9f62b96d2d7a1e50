BgsJ
×#<