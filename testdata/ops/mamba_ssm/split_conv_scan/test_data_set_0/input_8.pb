
Boutproj_biasJ(¼èh¾Ä˜„¿!;Â½Âq¡?Qğ¿ò¶¿ëlÌ¾†«¿9©?ÔÀI¿