document.getElementById("forward").submit();
