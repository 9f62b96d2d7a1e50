BbetaJp,ZF?š¨â>)¸â>cÆ˜>~yA?^ÓŸ>ö¦É:™9A?ßwd>G3c?rê¯>eÚ>nvj?Ï x?ümq?8•í>ÿoX?9ï>bŸ>wb™>¢æ<=r£;IÅV>
Ús?y?x=]âP?xp‚>