"""Makes handbook_en.pdf and handbook_zh.pdf, three pages each with a text layer.

Needs reportlab, which nothing else here does: pip install reportlab. The same text gives the same
bytes. The font is one that readers bring themselves.

python examples/documents/make_pdfs.py
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from reportlab.lib.pagesizes import A5
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfgen.canvas import Canvas

ENGLISH = [
    """Guest Handbook of the Larch House

Welcome to the Larch House, eleven rooms at the edge of the forest. The manager of the house is
Nora Lindqvist. She lives on the ground floor, behind the kitchen, and is glad to help with maps,
boots and umbrellas. The telephone number of the house is 555-0187.

Breakfast is served from half past seven in the dining room. On Sundays there are waffles. If you
leave early for a walk, ask the evening before, and a bag with bread, cheese and an apple will wait
for you at the door.""",
    """Rooms and keys

The front door is locked at ten in the evening. The code of the front door is 4471. The password for
the guest network is green-otter-63. In the tower rooms the signal is weak; the library on the
first floor is the best place to read the news.

Please leave wet boots in the hall. There is a drying room in the cellar, and the key to it hangs
beside the stove. Towels are changed every third day, and at once if you hang them up.""",
    """Walks and the bus

The Mill Path starts behind the house and leads along the stream. It takes two hours. After rain
the stones are slippery, and the old bridge is closed until May 20. The way round by the sheep
meadow is longer by half an hour, and dry.

The last bus to the station leaves at 6:40 pm. A ticket for the bus costs 3 euros. The mountain
guide is Tomas Berg; he takes small groups to the summit on Wednesdays and Saturdays.""",
]
CHINESE = [
    """青松客栈住客手册

欢迎来到青松客栈。客栈在森林边上，一共有十一间客房。客栈的经理是周晓梅，她住在一楼厨房后面，需要地图、雨伞
或者登山鞋的时候可以找她。客栈的电话是5309。

早餐从七点半开始，在餐厅供应，星期天有豆浆和油条。如果要早起爬山，请在前一天晚上说一声，早上门口会放好
一份带走的早餐。""",
    """房间和钥匙

大门晚上十点上锁，大门的密码是4471。客栈的无线网密码是QS-2036。塔楼的房间信号比较弱，想看新闻的客人可以
去二楼的书房。

请把湿了的鞋放在走廊里。地下室有烘干房，钥匙挂在炉子旁边。毛巾每三天换一次，挂在栏杆上的当天就换。""",
    """步道和班车

磨坊步道从客栈后面开始，沿着小溪走，全程大约两个小时。下雨以后石头很滑，老桥在五月二十日以前不开放。从草地
那边绕过去要多走半个小时，但是路是干的。

去车站的末班车下午六点四十分发车，车票的价格是15元。登山向导是马国强，每个星期三和星期六带客人登顶。""",
]


def wrap(text: str, chinese: bool) -> list[str]:
    """Lines of a paragraph; Chinese breaks anywhere but inside numbers, words and before a stop."""
    if not chinese:
        return textwrap.wrap(text, 58, break_on_hyphens=False)
    lines = [""]
    for piece in re.findall(r"[\w-]+[，。]|.[，。]?", text, re.ASCII):
        if len(lines[-1]) + len(piece) > 30:
            lines.append("")
        lines[-1] += piece
    return lines


def write(name: str, title: str, pages: list[str], chinese: bool) -> None:
    font, size = ("STSong-Light", 11) if chinese else ("Helvetica", 11)
    canvas = Canvas(str(Path(__file__).parent / name), pagesize=A5, invariant=1)
    canvas.setTitle(title)
    for page in pages:
        lines = canvas.beginText(42, A5[1] - 60)
        lines.setFont(font, size, leading=18)
        for paragraph in page.split("\n\n"):
            for line in wrap(paragraph.replace("\n", "" if chinese else " "), chinese):
                lines.textLine(line)
            lines.textLine()
        canvas.drawText(lines)
        canvas.showPage()
    canvas.save()


def main() -> None:
    pdfmetrics.registerFont(UnicodeCIDFont("STSong-Light"))
    write("handbook_en.pdf", "Guest Handbook of the Larch House", ENGLISH, chinese=False)
    write("handbook_zh.pdf", "青松客栈住客手册", CHINESE, chinese=True)


if __name__ == "__main__":
    main()
