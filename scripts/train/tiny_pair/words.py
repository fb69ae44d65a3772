"""Word tables of the corpus. Facts are true at a child's level; every table is plain data."""

# ruff: noqa: E501, SIM905
# fmt: off
# The tables read better on long lines.

from __future__ import annotations

GIRLS = """Mia Lily Anna Rosa Nora Ella Ruby Lucy Zoe Ivy Clara Daisy Hana Maya Luna Tess Wren Pia Dora Amy Kiki Bella Greta
Suki Nina Holly Poppy Olive Fern Willa""".split()
BOYS = """Tom Max Leo Sam Ben Finn Otto Jack Hugo Oscar Milo Theo Pip Gus Felix Noah Rex Toby Charlie Bruno Arlo Jasper Remy
Ollie Kit Barney Simon Peter Henry Walter""".split()

# animal: (home phrase, what it eats, the sound it makes, legs, where it lives, one more fact)
ANIMALS: dict[str, tuple[str, str, str, int, str, str]] = {
    "cat": ("in a warm little house", "fish and meat", "meow", 4, "in homes and gardens", "Cats sleep for many hours every day."),
    "dog": ("on a quiet farm", "meat and biscuits", "woof", 4, "with people", "Dogs can smell things that are far away."),
    "fox": ("at the edge of the forest", "mice and berries", "yip", 4, "in forests and fields", "A fox has a long and bushy tail."),
    "bear": ("in a cave near the mountain", "fish, honey and berries", "growl", 4, "in forests and mountains", "Many bears sleep all winter."),
    "rabbit": ("under an old oak tree", "grass and carrots", "squeak", 4, "in holes under the ground", "Rabbits have long ears and hear very well."),
    "mouse": ("behind the kitchen wall", "seeds and cheese", "squeak", 4, "in fields and houses", "A mouse can fit through a very small hole."),
    "owl": ("in a tall pine tree", "mice and insects", "hoot", 2, "in trees and old barns", "Owls hunt at night and can turn their heads far around."),
    "frog": ("beside a green pond", "flies and insects", "croak", 4, "in ponds and wet places", "A young frog is called a tadpole."),
    "duck": ("on a small blue lake", "plants and insects", "quack", 2, "on lakes and rivers", "Ducks have feathers that keep out the water."),
    "horse": ("in a wide green meadow", "grass and hay", "neigh", 4, "on farms and in meadows", "Horses can sleep standing up."),
    "cow": ("on a quiet farm", "grass and hay", "moo", 4, "on farms", "Cows give us milk."),
    "pig": ("on a quiet farm", "corn and vegetables", "oink", 4, "on farms", "Pigs are very clever animals."),
    "sheep": ("on a grassy hill", "grass and leaves", "baa", 4, "on hills and farms", "Sheep give us wool."),
    "lion": ("on a hot and sunny plain", "meat", "roar", 4, "on the plains of Africa", "A male lion has a big mane."),
    "tiger": ("deep in the jungle", "meat", "roar", 4, "in the forests of Asia", "Every tiger has its own stripes."),
    "elephant": ("on a hot and sunny plain", "grass, leaves and fruit", "trumpet", 4, "in Africa and Asia", "An elephant drinks with its trunk."),
    "monkey": ("deep in the jungle", "fruit and leaves", "chatter", 4, "in warm forests", "Monkeys use their hands and feet to climb."),
    "penguin": ("on the cold white ice", "fish", "squawk", 2, "on cold coasts in the south", "Penguins cannot fly, but they swim very well."),
    "bee": ("in a garden full of flowers", "nectar from flowers", "buzz", 6, "in a hive", "Bees make honey."),
    "ant": ("under a flat grey stone", "seeds and sweet things", "no sound that we can hear", 6, "in nests under the ground", "An ant can carry things heavier than itself."),
    "spider": ("in the corner of the barn", "flies and insects", "no sound that we can hear", 8, "in webs and quiet corners", "A spider makes its web from silk."),
    "turtle": ("near the sandy beach", "plants and small fish", "hiss", 4, "in water and on land", "A turtle carries its home on its back."),
    "snail": ("in a garden full of flowers", "leaves", "no sound that we can hear", 0, "in gardens and damp places", "A snail moves very slowly on one foot."),
    "squirrel": ("in a tall pine tree", "nuts and seeds", "chatter", 4, "in trees", "Squirrels hide nuts for the winter."),
    "hedgehog": ("under a pile of dry leaves", "worms and insects", "snuffle", 4, "in gardens and woods", "A hedgehog rolls into a ball when it is afraid."),
    "wolf": ("at the edge of the forest", "meat", "howl", 4, "in forests and mountains", "Wolves live in families called packs."),
    "parrot": ("deep in the jungle", "seeds and fruit", "squawk", 2, "in warm forests", "Some parrots can copy words."),
    "dolphin": ("in the wide blue sea", "fish", "click", 0, "in the sea", "Dolphins must come up to breathe air."),
    "whale": ("in the wide blue sea", "fish and very small animals", "a long song", 0, "in the sea", "The blue whale is the biggest animal of all."),
    "goat": ("on a grassy hill", "grass and leaves", "bleat", 4, "on farms and mountains", "Goats can climb on steep rocks."),
    "hen": ("on a quiet farm", "seeds and worms", "cluck", 2, "on farms", "Hens lay eggs."),
    "deer": ("at the edge of the forest", "grass and leaves", "bleat", 4, "in forests and meadows", "A young deer is called a fawn."),
}  # fmt: skip
PEOPLE = {
    "girl": "in a small white house", "boy": "in a small white house", "king": "in a castle on a hill",
    "queen": "in a castle on a hill", "princess": "in a castle on a hill", "farmer": "on a quiet farm",
    "baker": "above a little shop", "wizard": "in a tall stone tower", "sailor": "near the harbour",
    "robot": "in a dusty workshop", "dragon": "in a cave near the mountain", "knight": "in a castle on a hill",
    "gardener": "in a garden full of flowers", "painter": "above a little shop",
}  # fmt: skip
OTHERS = """zebra camel kangaroo unicorn crab bird fish crow swan donkey kitten puppy teacher doctor child pirate giant witch
fairy ghost snowman train car tree cloud star teddy astronaut cook musician panda koala giraffe hippo crocodile butterfly""".split()
PLACES = ["forest", "village", "garden", "city", "desert", "jungle", "mountain", "island", "beach", "farm", "castle", "school"]
DULL_TRAITS = """little old young happy sad big blue green magic silly funny strong quiet good rich great noble busy
beautiful small wise angry scared naughty pretty""".split()
THINGS = """ball kite lantern map drum book boat basket blanket hat bell key cup mirror flute ladder wagon umbrella clock coin
ring shell feather apple""".split()
WEATHER = ["sunny", "rainy", "windy", "cold", "foggy", "snowy", "warm", "stormy"]

COLOURS: dict[str, tuple[str, str]] = {
    "the sky": ("blue", "On a clear day the light of the sun makes it look that way, and at night it turns dark."),
    "grass": ("green", "It gets its colour from something in the leaves that catches sunlight."),
    "snow": ("white", "It is made of many tiny crystals of ice."),
    "the sun": ("yellow", "It looks orange or red when it goes down in the evening."),
    "a banana": ("yellow", "It is green before it is ripe."),
    "a strawberry": ("red", "It is sweet and has tiny seeds on the outside."),
    "coal": ("black", "It comes from deep under the ground."),
    "an orange": ("orange", "The fruit and the colour share one name."),
    "a carrot": ("orange", "It grows under the ground and rabbits like it."),
    "a lemon": ("yellow", "It tastes very sour."),
    "the sea": ("blue", "It looks that way because water takes in the red light and the sky shines on it."),
    "milk": ("white", "It comes from cows and goats, and it is good to drink."),
    "chocolate": ("brown", "It is made from the beans of the cacao tree."),
    "a tomato": ("red", "It is green before it is ripe."),
    "the moon": ("grey", "It looks white and bright because the sun shines on it."),
    "a leaf": ("green", "In autumn it can turn yellow, orange or red."),
    "a flamingo": ("pink", "It gets the colour from the food that it eats."),
    "an elephant": ("grey", "It has thick skin and big ears."),
    "a fire truck": ("red", "It is bright so that everyone can see it."),
    "a frog": ("green", "The colour helps it to hide in the grass."),
    "a polar bear": ("white", "The colour helps it to hide in the snow."),
    "a plum": ("purple", "It is sweet and has a stone inside."),
}  # fmt: skip
WHY: dict[str, str] = {
    "do birds sing": "Birds sing to talk to each other. A song can call a friend, find a mate, or tell other birds to stay away.",
    "is the sky blue": "The sky is blue because the air scatters blue light from the sun more than red light. That is why we see blue when we look up.",
    "do we sleep": "We sleep so that the body and the mind can rest. After a good night we feel fresh and can learn new things.",
    "does it rain": "It rains when tiny drops of water in a cloud join together and get heavy. Then they fall down to the ground.",
    "do cats purr": "Cats purr when they feel happy and safe. Sometimes they also purr to calm down.",
    "do leaves fall": "Leaves fall because trees save water and strength for the winter. In spring new leaves grow again.",
    "is the sea salty": "The sea is salty because rivers carry salt from the rocks to the sea. The water goes up into the air, but the salt stays.",
    "do we eat": "We eat because food gives us the strength to grow, think and play. Without food we would get weak and tired.",
    "do bees make honey": "Bees make honey so that they have food in the winter. They carry nectar from flowers to the hive.",
    "do dogs bark": "Dogs bark to say that something is there. They can bark because they are glad, afraid, or on guard.",
    "does the moon shine": "The moon shines because the sun lights it up. It has no light of its own.",
    "is ice cold": "Ice is cold because it is frozen water. It takes warmth from your hand, and so it feels cold.",
    "do plants need water": "Plants need water to grow and to make their food. The roots drink it from the ground.",
    "do we have seasons": "We have seasons because the earth leans a little as it goes around the sun. Each part gets more light in summer and less in winter.",
    "is snow white": "Snow is white because its tiny crystals send back all the colours of light together. All colours together look white.",
    "do people laugh": "People laugh when something is funny or when they are glad. Laughing together makes friends feel close.",
    "do stars twinkle": "Stars twinkle because their light passes through moving air before it reaches us. Far above the air they shine still.",
    "do we brush our teeth": "We brush our teeth to keep them clean and strong. Bits of food can make holes in teeth.",
    "do fish live in water": "Fish live in water because they breathe with gills. Gills take air out of the water.",
    "do boats float": "Boats float because the water pushes them up. A boat is full of air, and so it is light for its size.",
}  # fmt: skip
THINGS_EXPLAINED: dict[str, str] = {
    "a cloud": "A cloud is made of tiny drops of water that float in the air. When the drops get heavy, it rains.",
    "a rainbow": "A rainbow is an arc of colours in the sky. You can see it when the sun shines through rain.",
    "the moon": "The moon is a ball of rock that goes around the earth. It takes about a month to go around once.",
    "the sun": "The sun is a star. It gives us light and warmth every day.",
    "a star": "A star is a huge ball of hot gas that shines. It looks tiny because it is far away.",
    "a river": "A river is water that flows over the land. It starts in the hills and ends in a lake or in the sea.",
    "a mountain": "A mountain is very high land. The top is often cold and covered with snow.",
    "a desert": "A desert is a dry place where it hardly ever rains. Few plants can grow there.",
    "an island": "An island is land with water all around it. You can reach it by boat.",
    "a forest": "A forest is a place with many trees. Deer, foxes and owls live there.",
    "honey": "Honey is a sweet food that bees make from flowers. It tastes good on bread.",
    "bread": "Bread is a food made from flour and water. A baker bakes it in a hot oven.",
    "ice": "Ice is frozen water. It melts when it gets warm.",
    "a friend": "A friend is someone who likes you and helps you. Good friends share and listen.",
    "a book": "A book has many pages with words and pictures. You read it to learn or to enjoy a story.",
    "a clock": "A clock shows the time. It has hands or numbers.",
    "a library": "A library is a place full of books. You can borrow them and bring them back.",
    "music": "Music is sound that is made to be nice to hear. People sing it or play it on a drum or a flute.",
    "a volcano": "A volcano is a mountain that can throw out hot melted rock. The rock comes from deep under the ground.",
    "wind": "Wind is air that moves. It can be a soft breeze or a strong storm.",
    "a seed": "A seed is a small thing that a plant grows from. It needs water, warmth and earth.",
    "a robot": "A robot is a machine that can do work. People tell it what to do.",
    "a planet": "A planet is a big round thing that goes around a star. We live on the planet earth.",
    "winter": "Winter is the coldest season. The days are short and it may snow.",
    "summer": "Summer is the warmest season. The days are long and many people go to the beach.",
    "a dragon": "A dragon is an animal from old stories. It can fly and breathe fire, but it is not real.",
    "love": "Love is a warm feeling for someone who is dear to you. You want them to be well and happy.",
    "a baker": "A baker is a person who bakes bread and cakes. A baker gets up very early.",
    "a doctor": "A doctor is a person who helps people who are ill. A doctor often works in a hospital.",
    "a teacher": "A teacher is a person who helps others to learn. A teacher often works in a school.",
    "a farmer": "A farmer is a person who grows food and keeps animals. A farmer works outside a lot.",
}  # fmt: skip
CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin", "Japan": "Tokyo", "England": "London",
    "Greece": "Athens", "Egypt": "Cairo", "Russia": "Moscow", "China": "Beijing", "Norway": "Oslo", "Canada": "Ottawa",
    "Portugal": "Lisbon", "Austria": "Vienna", "Ireland": "Dublin", "Kenya": "Nairobi", "Peru": "Lima", "Cuba": "Havana",
}  # fmt: skip
OPPOSITES = [
    ("big", "small"), ("hot", "cold"), ("day", "night"), ("happy", "sad"), ("fast", "slow"), ("up", "down"), ("wet", "dry"),
    ("old", "young"), ("light", "dark"), ("hard", "soft"), ("full", "empty"), ("good", "bad"), ("open", "closed"), ("high", "low"),
    ("near", "far"), ("loud", "quiet"), ("strong", "weak"), ("early", "late"), ("rich", "poor"), ("clean", "dirty"),
]  # fmt: skip
SYNONYMS = [
    ("happy", "glad"), ("big", "large"), ("small", "little"), ("fast", "quick"), ("pretty", "beautiful"), ("tired", "sleepy"),
    ("clever", "smart"), ("scared", "afraid"), ("quiet", "silent"), ("angry", "cross"), ("brave", "bold"), ("funny", "merry"),
]  # fmt: skip
KINDS: dict[str, list[str]] = {
    "animals": "cats dogs horses rabbits lions owls ducks foxes bears sheep".split(),
    "fruits": "apples pears bananas oranges grapes cherries plums lemons".split(),
    "colours": "red blue green yellow orange purple pink brown".split(),
    "vegetables": "carrots peas onions potatoes beans corn".split(),
    "birds": "owls ducks hens parrots penguins swans robins".split(),
    "toys": "a ball, a kite, a doll, a drum, a puzzle, a train".split(", "),
    "sports": "football tennis swimming running skating cycling".split(),
    "things in the sky": "the sun, the moon, stars, clouds, birds, kites".split(", "),
    "farm animals": "cows pigs sheep hens goats horses".split(),
    "drinks": "water milk tea juice cocoa lemonade".split(),
    "feelings": "joy love anger fear hope pride".split(),
    "things to read": "a story, a poem, a letter, a map, a comic".split(", "),
}  # fmt: skip
IRREGULAR = {"fox": "foxes", "mouse": "mice", "sheep": "sheep", "wolf": "wolves", "deer": "deer"}
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
